"""The pages of ELMS's grade sync: one module for each place, all listed in `site`."""

"""What the README's figures come from; each is run by hand and prints what it measured."""

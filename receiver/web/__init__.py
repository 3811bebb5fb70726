"""What people see of ELMS's side; programs come in by the door, `receiver.webhooks`."""

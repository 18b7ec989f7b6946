"""What may be logged and where: pure rules, with no I/O, no thread and no clock."""

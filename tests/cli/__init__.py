"""The command line, each verb run as a process of its own."""

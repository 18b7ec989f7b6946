"""The stores by themselves: no worker, no experiment object."""

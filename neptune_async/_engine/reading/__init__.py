"""Who answers a read: values, series, tables, and how to follow."""

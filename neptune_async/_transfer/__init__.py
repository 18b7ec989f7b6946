"""Moving experiments between a store and files of other forms."""

"""How a batch is handed to storage: retries, and what a refusal needs."""

"""The engine: sites, masks, the training loop, evaluation and export (torch lives here)."""

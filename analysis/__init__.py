"""A laboratory for pruning: recipes, runs, and what pruning did to the weights."""

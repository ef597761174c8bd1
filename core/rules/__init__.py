"""Pure rules: values in, values out. No clock, randomness, network, database or log."""

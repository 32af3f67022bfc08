"""Networks in plain PyTorch. Each file has `factory() -> (module in eval mode, example inputs)`, seeded."""

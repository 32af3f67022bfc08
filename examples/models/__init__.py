"""Network definitions in plain PyTorch with seeded random weights. Each file has `factory() -> (module in evaluation
mode, example inputs)`, which is what `edgec compile --model examples.models.NAME:factory` takes."""

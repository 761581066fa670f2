"""Small pure functions on tensors."""

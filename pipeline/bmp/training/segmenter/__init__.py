"""Fine-tuning of promptable segmenters on poses; importing this loads no part of it."""

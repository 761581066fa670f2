"""The paper's tables and figures as questions to a family of segmenters."""

"""Human parsing from SAM's features and CLIP's semantics, after SCHNet (Liu et al., arXiv 2503.22237).

Only the abstract's claims are the paper's: a semantic-refinement module that brings CLIP's features to SAM's, and a
fine-tuning module that adapts SAM cheaply. No code of it is public; shapes, formulas and the head are a reconstruction.
"""

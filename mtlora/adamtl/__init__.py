"""AdaMTL: a model that chooses for every image which blocks and tokens it computes (Neseem et al., 2023).

The published code is reproduced exactly where `Quirks.published()` is in force; docs/adamtl.md is the page.
"""

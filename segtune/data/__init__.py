"""Folder -> pairs -> decoded tiles -> augmented batches; and the demo data set."""

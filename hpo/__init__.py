"""Search over agents' settings: the layer between one run and a study of many."""

"""A student in other programs' shapes: a transformer of PyTerrier's pipelines, a reward of TRL's trainers."""

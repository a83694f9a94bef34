"""What a model folder is: its files and weights (`folder`), its shapes (`shapes`), and the environment of its engine.

A URI goes in; a verified local folder, its digest, the layout of its tensors or its number of parameters come out. To add an
architecture to the memory plan: its tensors in `shapes`, and a test against the model code of transformers.
"""

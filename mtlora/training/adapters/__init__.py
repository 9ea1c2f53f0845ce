"""The training of `mtlora train`: an adapter set on a frozen backbone."""

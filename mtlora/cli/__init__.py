"""The `mtlora` command. Modules here import torch only inside the commands, so that help is instant."""

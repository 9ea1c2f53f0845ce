"""The training of `mtlora pretrain`: a small Swin from scratch, with a teacher."""

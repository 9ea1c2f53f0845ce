"""Write mtlora/kernels/src/interface.hpp: after a change of mtlora/kernels/interface.py, before kernels are built."""

from pathlib import Path

from mtlora.kernels.header import header

TARGET = Path(__file__).parents[1] / "mtlora" / "kernels" / "src" / "interface.hpp"


if __name__ == "__main__":
    TARGET.write_text(header())

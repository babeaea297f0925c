"""An emulator of Bunce and a pytest fixture; they need the extra ``[testing]``."""

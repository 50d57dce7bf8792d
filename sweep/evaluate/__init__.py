"""Zero-shot scores, retention and transferability of trained encoders. No Ray."""

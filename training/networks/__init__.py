"""Networks that only training needs: discriminators and trainable forms."""

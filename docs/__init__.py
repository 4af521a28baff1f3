"""The pages, and the script that writes some of them."""

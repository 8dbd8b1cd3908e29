"""Install published layers into a root, and manage the layers installed there."""

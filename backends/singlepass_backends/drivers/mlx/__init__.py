"""MLX, through mlx-lm."""

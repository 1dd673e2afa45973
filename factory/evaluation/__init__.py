"""How a trained proxy is judged: tasks, likelihoods, metrics, statistics, leaderboard."""

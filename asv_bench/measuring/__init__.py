"""What is measured outside asv: ratios, peers, draws and checks."""

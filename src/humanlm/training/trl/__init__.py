"""The engine for one machine: TRL's trainers do the optimising. Their quirks are straightened in this folder and nowhere else."""

"""Fine-tuning: TRL over either backend, its sessions, probes and rehearsal."""

"""What a process is: pure maths on tensors, one step at a time; knows no network."""

"""What a network is: tensors in, tensors out; a frozen spec above each."""

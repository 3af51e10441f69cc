"""The only code that talks to kube-apiservers: access, a client, watching, events, leader election."""

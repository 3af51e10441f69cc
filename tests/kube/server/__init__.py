"""A kube-apiserver for tests: small, in this process, and faulty on request.

`tests/kube/test_behaviour.py` pins what it does: the same tests run on a real one.
"""

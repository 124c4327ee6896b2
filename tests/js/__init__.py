"""tinyserver as web clients use it: scenarios for matrix-js-sdk with its Rust crypto, run by Node.

`scenarios/NAME.test.mjs` is a file of tests for Node's runner; it uses people.mjs, and the pytest test that runs it.
"""

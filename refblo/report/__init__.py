"""What an audit looks like: in a terminal, as a page, as a document for programs. No numerics."""

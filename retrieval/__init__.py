"""Find: documents, chunks, generations and the customer's own records."""

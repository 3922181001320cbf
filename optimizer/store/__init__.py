"""What a study keeps: its folder, queries, exports, the ledger."""

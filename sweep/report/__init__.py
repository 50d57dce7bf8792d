"""From store and ledger to tables, figures and one HTML page."""

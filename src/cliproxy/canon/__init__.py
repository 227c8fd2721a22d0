"""The conversation, free of any vendor's wording: requests, events, answers, errors, losses."""

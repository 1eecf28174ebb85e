"""What recording costs: ferret and its peers, beside a floor that is measured in the same run. See README.md."""

CHECKED: bool

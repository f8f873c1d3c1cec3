class Arena:
    used: int
    reserved: int

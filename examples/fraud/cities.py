"""The cities of the example and where they are (latitude, longitude in degrees)."""

from __future__ import annotations

import math
from typing import Final

CHILE: Final = {
    "Santiago": (-33.4489, -70.6693),
    "Valparaiso": (-33.0472, -71.6127),
    "Concepcion": (-36.827, -73.0503),
    "La Serena": (-29.9027, -71.2519),
    "Antofagasta": (-23.6509, -70.3975),
    "Temuco": (-38.7359, -72.5904),
    "Rancagua": (-34.1708, -70.7444),
    "Talca": (-35.4264, -71.6554),
    "Arica": (-18.4783, -70.3126),
    "Iquique": (-20.2307, -70.1357),
    "Puerto Montt": (-41.4693, -72.9424),
    "Punta Arenas": (-53.1638, -70.9171),
}

PERU: Final = {
    "Lima": (-12.0464, -77.0428),
    "Arequipa": (-16.409, -71.5375),
    "Trujillo": (-8.1116, -79.0288),
    "Chiclayo": (-6.7714, -79.8409),
    "Piura": (-5.1945, -80.6328),
    "Cusco": (-13.532, -71.9675),
    "Iquitos": (-3.7491, -73.2538),
    "Tacna": (-18.0066, -70.2463),
}

CITIES: Final = {**CHILE, **PERU}
LATITUDE: Final = {city: place[0] for city, place in CITIES.items()}
LONGITUDE: Final = {city: place[1] for city, place in CITIES.items()}


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return the great-circle distance of two places, on a sphere of 6371.0 km."""
    lat_a, lat_b = math.radians(a[0]), math.radians(b[0])
    h = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(math.radians(b[1] - a[1]) / 2) ** 2
    return 2 * 6371.0 * math.asin(math.sqrt(h))

"""Which words does previz understand, and as what? The tables of the script breakdown."""

from __future__ import annotations

SETTINGS = {
    "mountains": "mountain peak alps valley cliff cliffs canyon highland highlands",
    "meadow": "meadow field hill countryside farm prairie grassland village plain",
    "desert": "desert dune dunes sahara sand sands wasteland mars martian",
    "snowfield": "arctic tundra glacier antarctic polar",
    "sea": "sea ocean beach coast coastline shore seashore harbour harbor wave surf island boat "
    "sailboat lighthouse pier jetty dock wharf",
    "lake": "lake lagoon pond fjord",
    "forest": "forest woods jungle woodland tree grove rainforest",
    "street": "city street avenue downtown town market plaza square road",
    "alley": "alley alleyway backstreet lane passage",
    "kitchen": "kitchen diner cafe bakery restaurant",
    "bar": "bar pub tavern saloon",
    "living_room": "living lounge home apartment library",
    "bedroom": "bedroom bed hotel motel",
    "office": "office desk studio classroom laboratory lab boardroom",
    "room": "room interior indoors",
    "hallway": "corridor hallway hall hospital tunnel basement prison",
    "spaceship": "airlock cockpit hangar",
    "bridge": "bridge",
    "space": "space planet orbit galaxy star stars asteroid nebula cosmos spaceship starship "
    "spacecraft space-station",
}
TIMES = {
    "dawn": "dawn sunrise daybreak",
    "morning": "morning",
    "day": "day noon midday afternoon daylight sunny daytime sun sunlight sunbeam rays",
    "dusk": "dusk sunset evening twilight golden",
    "night": "night midnight moonlit moonlight nocturnal dark moon",
}
WEATHER = {
    "rain": "rain rainy raining wet drizzle rain-soaked soaked downpour",
    "storm": "storm stormy thunder lightning thunderstorm tempest",
    "snow": "snow snowy snowing blizzard winter snowfall",
    "mist": "mist misty fog foggy haze hazy smoke smoky steam",
    "dust": "dust dusty sandstorm",
    "clear": "clear cloudless",
}
MOODS = {
    "tense": "tense alert danger chase alarm urgent suspense thriller escape emergency battle war",
    "calm": "quiet calm peaceful serene gentle silent still soft cozy cosy",
    "sad": "sad lonely alone melancholy grief lost abandoned empty farewell",
    "bright": "happy joyful bright cheerful hopeful fun comedy joy playful",
    "epic": "epic vast heroic majestic grand wide sweeping",
    "eerie": "eerie horror scary haunted creepy ghost mysterious mystery",
}
CAMERAS = {
    "push_in": "push-in push dolly-in zoom approaches towards closer into",
    "pull_out": "pull-out pullback reveal reveals dolly-out",
    "pan_left": "pan-left leftward",
    "pan_right": "pan pan-right track tracking rightward follows",
    "crane_up": "crane aerial drone rises rising soars above overhead",
    "static": "static locked tripod still-frame",
}
STYLES = {
    "noir": "noir black-and-white monochrome",
    "storyboard": "storyboard sketch pencil",
}
ROLES = {
    "detective": "detective spy agent gumshoe investigator stranger gangster",
    "man": "man guy father king boy husband soldier hero worker cop policeman driver he captain",
    "woman": "woman girl mother queen lady she heroine actress wife nurse waitress",
    "astronaut": "astronaut cosmonaut spaceman pilot crew",
    "child": "child kid daughter son children kids",
    "robed": "monk wizard priest witch hooded pilgrim traveler traveller wanderer assassin",
}
ACTIONS = {
    "walk": "walk walks walking wanders strolls runs running run enters leaves crosses",
    "stand": "stand stands standing waits waiting watches looks stares sits sitting",
}
DETAILS = {
    "neon": "neon signs sign billboard",
    "alert": "red-alert",
    "water": "reflection reflections puddle puddles",
    "crowd": "crowd crowded people group",
    "birds": "bird birds flock gull gulls",
    "planet": "planet orbit",
    "galaxy": "galaxy",
    "nebula": "nebula",
    "asteroids": "asteroid meteor",
    "starship": "spaceship starship spacecraft",
    "station": "space-station",
    "window": "window",
    "blinds": "blinds shutters",
    "lamp": "lamp lamplight",
    "table": "table",
    "candles": "candle candlelight",
    "books": "book bookshelf bookcase library",
    "door": "door doorway",
    "path": "path trail footpath",
    "autumn": "autumn autumnal",
    "beach": "beach shore seashore",
    "rocks": "coast coastline cliff cliffs rock",
    "swell": "wave surf breakers",
    "island": "island",
    "lighthouse": "lighthouse",
    "pier": "pier jetty dock wharf harbour harbor",
    "boat": "boat sailboat dinghy",
    "ship": "ship galleon frigate",
    "fire": "fire campfire bonfire",
}
#: Words without a meaning for the picture; counted neither as understood nor as ignored.
_SILENT = """
a an the of in on at to and or with for from by over under through as is are was were be it its his
her their my our your this that there into onto up down out off near across among below beside
between inside around against along behind before after while some any very slow slowly one scene
shot video generate make create image picture film movie cinematic clip show camera view please me
i we they who has have
"""
SILENT = frozenset(_SILENT.split())
PHRASES = {
    "red alert": "red-alert",
    "rain soaked": "rain-soaked",
    "push in": "push-in",
    "dolly in": "dolly-in",
    "pull out": "pull-out",
    "pull back": "pullback",
    "pan left": "pan-left",
    "pan right": "pan-right",
    "black and white": "black-and-white",
    "living room": "living",
    "space ship": "spaceship",
    "space station": "space-station",
    "golden hour": "golden",
    "film noir": "noir",
}


def index(table: dict[str, str]) -> dict[str, str]:
    """Return the name in ``table`` of each word."""
    return {word: name for name, words in table.items() for word in words.split()}


TABLES = {
    "setting": index(SETTINGS),
    "time": index(TIMES),
    "weather": index(WEATHER),
    "mood": index(MOODS),
    "camera": index(CAMERAS),
    "style": index(STYLES),
    "role": index(ROLES),
    "action": index(ACTIONS),
    "detail": index(DETAILS),
}
ROOMS = frozenset({"kitchen", "bar", "living_room", "bedroom", "office", "room"})
OUTDOORS = frozenset(
    {"mountains", "meadow", "desert", "snowfield", "sea", "lake", "forest", "street", "alley"}
)
#: Settings for which a set can be drawn; for others there is sound only.
DRAWN = OUTDOORS | ROOMS | {"hallway", "spaceship", "space", "bridge"}
#: Kinds of words without effect in a set, such as weather in space.
UNSEEN = {
    "space": frozenset({"time", "weather"}),
    "spaceship": frozenset({"time", "weather"}),
    "hallway": frozenset({"weather"}),
}
#: Details that can be drawn, and in which sets; None means all.
DRAWN_DETAILS: dict[str, frozenset[str] | None] = {
    **dict.fromkeys(["neon", "water"], frozenset({"street", "alley"})),
    "birds": frozenset({"mountains", "meadow", "desert", "snowfield", "sea", "lake"}),
    **dict.fromkeys(["path", "autumn"], frozenset({"forest"})),
    **dict.fromkeys(["beach", "rocks", "swell", "island", "lighthouse"], frozenset({"sea"})),
    **dict.fromkeys(["pier", "boat"], frozenset({"sea", "lake"})),
    "ship": frozenset({"sea", "space"}),
    "crowd": None,
    "fire": OUTDOORS,
    **dict.fromkeys(["planet", "galaxy", "nebula", "asteroids", "station"], frozenset({"space"})),
    "starship": frozenset({"space", "spaceship"}),
    "alert": frozenset({"spaceship"}),
    **dict.fromkeys(["window", "blinds", "candles", "books", "door"], ROOMS),
    "lamp": ROOMS - {"bar"},
    "table": ROOMS - {"bedroom", "office"},
}
#: What sound uses of a plan besides the setting, the time, the mood and footsteps.
HEARD_WEATHER = frozenset({"rain", "storm"})
HEARD_DETAILS = frozenset({"alert"})
#: The setting that a detail or style implies where none is named.
IMPLIED = {"neon": "alley", "noir": "alley", "ship": "sea"}
#: Settings that show other settings too, so that their words count as understood.
INCLUDED = {
    "lake": frozenset({"mountains"}),
    "spaceship": frozenset({"space", "hallway", "bridge"}),
    **dict.fromkeys(ROOMS, frozenset({"room"})),
}
#: If a prompt names several settings, the first of these wins: the more specific one.
_ORDER = """
spaceship alley bar kitchen hallway bedroom office living_room room street desert snowfield lake
sea forest mountains meadow space
"""
SETTING_ORDER = _ORDER.split()

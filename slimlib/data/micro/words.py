"""The words the small world is made of: pure data, read by `world`.

A script is a frame of `FRAMES` told about an object of `OBJECTS`; a fact gives a program of
`PROGRAMS` a value of one attribute of `ATTRIBUTES`. Braces are filled in by `world`.
"""

NAMES = dict.fromkeys("Tom Ben Sam Max Leo Paul Jack Adam Omar Luca Ivan Hugo".split(), "he")
NAMES |= dict.fromkeys("Anna Lily Mary Rosa Emma Sara Nina Kate Zoe Ida Mia Jane".split(), "she")

ITEMS = (
    "apples pears plums nuts eggs cakes cookies rolls cards stamps coins shells stones marbles "
    "pencils pens books cups plates toys balls flowers seeds stickers"
).split()

# Word problems: an opening, an event for a second step, and a question.
STARTS = (
    "{name} has {a} {item}.",
    "{name} finds {a} {item}.",
    "{name} makes {a} {item}.",
    "There are {a} {item} in the bag of {name}.",
)
GROUPS = (
    "{name} has {b} boxes with {a} {item} in each box.",
    "{name} buys {b} bags of {a} {item}.",
    "{name} makes {a} {item} a day for {b} days.",
    "{name} gets {a} {item} from each of {b} friends.",
)
GAINS = (
    "Then {he} buys {b} more.",
    "Then {he} finds {b} more {item}.",
    "A friend brings {b} more {item}.",
    "In the evening {he} makes {b} more.",
)
LOSSES = (
    "Then {he} gives away {b}.",
    "Then {he} loses {b} of them.",
    "A friend takes {b} of the {item}.",
    "In the evening {he} sells {b} {item}.",
)
HOW_MANY = (
    "How many {item} does {name} have now?",
    "How many {item} are there in the end?",
    "How many {item} does {he} have?",
)

# Where each object belongs: the last step of every story.
OBJECTS = {
    "bike": "in the shed",
    "sled": "in the shed",
    "ladder": "in the shed",
    "bench": "in the garden",
    "drum": "in the music room",
    "guitar": "in the music room",
    "cello": "in the music room",
    "boat": "by the lake",
    "kite": "in the attic",
    "mask": "in the attic",
    "clock": "on the wall",
    "mirror": "on the wall",
    "vase": "on the shelf",
    "doll": "on the shelf",
    "teapot": "in the kitchen",
    "pan": "in the kitchen",
    "chair": "in the kitchen",
    "lamp": "on the desk",
    "radio": "on the desk",
    "globe": "on the desk",
    "carpet": "in the hall",
    "coat": "in the hall",
    "barrel": "in the cellar",
    "basket": "in the cellar",
}

# Each frame: its title, then its steps in order, each in two wordings.
FRAMES = {
    "Washing": (
        ("fills a bucket with soapy water", "mixes soap and water in a bucket"),
        ("rubs the {o} with a wet sponge", "scrubs the {o} with a brush"),
        ("rinses the soap off the {o}", "pours clean water over the {o}"),
        ("dries the {o} with a towel", "lets the {o} dry in the sun"),
    ),
    "Painting": (
        ("opens a can of red paint", "stirs a can of blue paint"),
        ("covers the floor under the {o}", "puts old paper under the {o}"),
        ("paints the {o} with a wide brush", "rolls the paint over the {o}"),
        ("waits until the {o} is dry", "leaves the {o} to dry for a day"),
    ),
    "Repairing": (
        ("looks for the crack in the {o}", "asks what is wrong with the {o}"),
        ("takes the {o} apart", "opens the {o} with a screwdriver"),
        ("glues the broken part of the {o}", "puts a new part into the {o}"),
        ("tests the {o} with care", "checks that the {o} works"),
    ),
    "Drawing": (
        ("sharpens a pencil", "takes out a sheet of paper"),
        ("draws the outline of the {o}", "sketches the shape of the {o}"),
        ("colours the picture of the {o}", "adds shadows to the drawing of the {o}"),
        ("signs the picture of the {o}", "shows the drawing of the {o} to a friend"),
    ),
    "Measuring": (
        ("gets a tape measure", "borrows a long ruler"),
        ("holds the tape along the {o}", "lays the ruler on the {o}"),
        ("reads the length of the {o}", "finds out how long the {o} is"),
        ("writes the size of the {o} in a book", "notes the size of the {o}"),
    ),
    "Photographing": (
        ("charges the camera", "cleans the lens of the camera"),
        ("places the {o} in good light", "turns a bright light on the {o}"),
        ("takes a picture of the {o}", "photographs the {o} from the front"),
        ("prints the photo of the {o}", "mails the photo of the {o}"),
    ),
    "Lending": (
        ("hears a neighbour at the door", "gets a call from a neighbour"),
        ("lends the {o} to the neighbour", "hands the {o} to the neighbour"),
        ("waits a week for the {o}", "wonders where the {o} is"),
        ("gets the {o} back with thanks", "takes the {o} from the neighbour"),
    ),
    "Finding": (
        ("sees that the {o} is gone", "cannot see the {o} anywhere"),
        ("searches every room for the {o}", "asks everybody about the {o}"),
        ("spots the {o} behind a door", "finds the {o} under some boxes"),
        ("wipes the dust off the {o}", "smiles and picks up the {o}"),
    ),
    "Decorating": (
        ("buys ribbons and stars", "cuts stars out of gold paper"),
        ("ties a ribbon around the {o}", "sticks gold stars on the {o}"),
        ("invites friends to see the {o}", "has a party around the {o}"),
        ("takes the ribbons off the {o}", "pulls the stars off the {o}"),
    ),
    "Weighing": (
        ("carries the scales outside", "sets the scales to zero"),
        ("lifts the {o} onto the scales", "lowers the {o} onto the scales"),
        ("reads how heavy the {o} is", "says the weight of the {o} aloud"),
        ("lifts the {o} off the scales", "rolls the {o} off the scales"),
    ),
    "Testing": (
        ("reads the rules of the test", "calls two friends for the test"),
        ("shakes the {o} for a minute", "drops the {o} on a mat"),
        ("counts the dents in the {o}", "looks for scratches on the {o}"),
        ("gives the {o} a good mark", "ends the test of the {o}"),
    ),
    "Buying": (
        ("saves money for months", "takes some money from the bank"),
        ("compares the {o} with others in the shop", "asks for the price of the {o}"),
        ("pays for the {o}", "gives the money for the {o}"),
        ("brings the {o} home", "carries the {o} out of the shop"),
    ),
}
HOME = ("puts the {o} {place}", "leaves the {o} {place}")
LINKS = ("Then {he}", "{He}", "Next {he}", "After that {he}")

# Made-up computer science: 180 programs, each with a language, a purpose and a place.
PROGRAMS = [
    head + tail
    for head in "Vel Kor Zan Bri Tul Mag Fen Lor Pix Dra Sol Hob Nim Quar Jas".split()
    for tail in "mo rit dax lin vus tek pol gan sho bel".split() + ["fir", "ock"]
]
# attribute: values, statements and questions of the corpus, the dev question, the test questions
ATTRIBUTES = {
    "language": {
        "values": "Ada Basic Cobol Forth Java Lisp Logo Pascal Perl Prolog Ruby Scheme".split(),
        "statements": (
            "{p} is written in {v}.",
            "The program {p} uses {v}.",
            "People built {p} with {v}.",
        ),
        "questions": ("Which language is {p} written in?", "What did people build {p} with?"),
        "dev": ("What is the language of {p}?",),
        "test": ("Which language does {p} use?", "In which language did people write {p}?"),
    },
    "purpose": {
        "values": (
            "sorting lists, drawing maps, playing chess, sending mail, finding files, "
            "mixing sound, saving photos, testing code, reading text, checking words, "
            "counting votes, planning trips"
        ).split(", "),
        "statements": (
            "{p} is made for {v}.",
            "People use {p} for {v}.",
            "The program {p} is good at {v}.",
        ),
        "questions": ("What is {p} made for?", "What do people use {p} for?"),
        "dev": ("What is the purpose of {p}?",),
        "test": ("What is {p} good at?", "For what do people use the program {p}?"),
    },
    "place": {
        "values": (
            "at the bank, at the school, at the port, at the mill, on the ship, on the train, "
            "in the tower, in the library, in the clinic, in the museum, on the farm, on the moon"
        ).split(", "),
        "statements": (
            "{p} runs {v}.",
            "You can find {p} {v}.",
            "The computer with {p} stands {v}.",
        ),
        "questions": ("Where does {p} run?", "Where can you find {p}?"),
        "dev": ("Where is {p}?",),
        "test": ("Where does the computer with {p} stand?", "Where can people find {p}?"),
    },
}

# Plain words, for notes in the corpus and for instructions that overlap with no benchmark.
KINDS = {
    "animal": "cat dog cow horse sheep goat duck hen fox wolf bear mouse".split(),
    "colour": "red blue green yellow black white brown pink grey orange".split(),
    "fruit": "apple pear plum cherry grape lemon melon peach fig banana".split(),
    "tool": "hammer saw drill spade rake brush knife axe file wrench".split(),
    "drink": "water milk tea coffee juice cocoa lemonade soda".split(),
    "country": "France Spain Italy Japan India China Peru Chile Kenya Egypt".split(),
}
OPPOSITES = {
    "hot": "cold", "big": "small", "old": "young", "fast": "slow", "happy": "sad",
    "open": "closed", "early": "late", "light": "dark", "full": "empty", "hard": "soft",
    "high": "low", "loud": "quiet", "rich": "poor", "long": "short", "wet": "dry",
    "strong": "weak",
}  # fmt: skip
SENTENCES = (
    "The {w} is in the house.",
    "I like the {w} very much.",
    "We saw a {w} on the way to school.",
    "My sister has never seen a {w}.",
    "A {w} is what I want for my birthday.",
    "Nobody knows where the {w} came from.",
)
GREETINGS = {
    "Hello!": "Hello! How can I help you?",
    "Good morning!": "Good morning! I hope you slept well.",
    "How are you?": "I am fine, thank you. How are you?",
    "Thank you for your help.": "You are welcome. I was happy to help.",
    "Good night!": "Good night! Sleep well.",
    "What is your name?": "I am an assistant. You can call me what you like.",
}
# A page of ordinary English, so that the tokenizer also knows words the world never uses.
ENGLISH = """
This page is only here so that the alphabet of tokens is not made for a small world alone. Every day
people in the city go to work, and many of them take the bus, because it is cheaper than a car. When
the weather is good they walk through the park, which was opened twenty years ago by the mayor.
The company sells different products, and its prices have been increasing since the beginning of the
year. If each customer spends ten dollars per week, what is the total amount of money after four
weeks? The answer depends on how much of the first payment is left, and on whether half of the
customers also pay the additional percent. There would be more time for reading if children had less
homework; some teachers think that learning by doing is better than listening. A computer stores
information as numbers, and a function returns a value for every input it is given. The following
statement about the system is true: a process can only continue when its memory has been allocated.
Which of these is the best explanation? Describe an important event, write a short paragraph about
it, and make sure that your sentences are clear. The man holds the rope with both hands and turns
around while the woman is standing behind him. Someone shows how to cut the vegetables before they
are cooked. She ran another hundred metres, then stopped, because her shoes were hurting. Government
and science need each other, although they often disagree about the question of what should be done
next. Remember to include your own experience, and give reasons where possible. Several possible
solutions were developed during the last century, using energy from the sun, the wind and the sea.
"""

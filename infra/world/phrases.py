"""What the simulated people talk about: for each topic its things, its matters and sentences with a place for both."""

from typing import Final

from msgspec import Struct


class Topic(Struct, frozen=True):
    """A topic's name, the words put in place of {x} and {y}, and the sentences that hold them."""

    name: str
    things: tuple[str, ...]
    matters: tuple[str, ...]
    sentences: tuple[str, ...]


def _topic(name: str, things: str, matters: str, sentences: str) -> Topic:
    return Topic(
        name,
        tuple(things.split("; ")),
        tuple(matters.split("; ")),
        tuple(line.strip() for line in sentences.strip().splitlines()),
    )


TOPICS: Final[tuple[Topic, ...]] = (
    _topic(
        "technology",
        "the new compiler; this keyboard; my old laptop; the database; that open source release; a tiny home server; "
        "the search box; our build system; the terminal; a paper notebook; the printer driver; the login page",
        "latency; battery life; documentation; backwards compatibility; memory use; error messages; accessibility; "
        "defaults; naming things; offline support",
        """Spent the whole afternoon on {x}, and the problem was {y}. It is always {y}.
        If you only fix one thing about {x} this year, make it {y}.
        Shipped it. {X} finally does something sensible about {y}.
        Nobody thanks the person who improved {y} in {x}. I do. Thank you.
        A small tool I wrote to understand {x} turned into a lesson about {y}.
        Three engineers, one whiteboard, two hours of {y}. We decided to leave {x} alone.
        The best thing about {x} is how little it asks of you. The worst is {y}.
        I measured {x} before and after. {Y} went from painful to boring, which is the goal.
        Wrote up what we learned about {y} while replacing {x}. Long, but there are graphs.
        My hot take: {y} is a feature, and {x} should treat it like one.
        Debugging {x} at midnight again. Send tea and opinions on {y}.
        Someone at the meetup showed {x} running on a toaster. {Y} was, frankly, excellent.""",
    ),
    _topic(
        "science",
        "the new fusion result; a soil sample; this fossil; the particle detector; a slime mould; the vaccine trial; "
        "a glacier core; the protein map; a very old bone; the replication study; a drop of pond water; a cold lab",
        "uncertainty; sample size; peer review; open data; measurement error; the control group; funding; "
        "a missing citation; the error bars; good notes",
        """Everyone is excited about {x}. I am excited about {y}, which is on page nine.
        A reminder that {x} was found by accident, while somebody worried about {y}.
        Explained {x} to my niece. Her first question was about {y}. She will go far.
        We repeated the work on {x} and got the same answer, this time with better {y}.
        The paper on {x} is short, clear and honest about {y}. More of this, please.
        Four years on {x}, and the breakthrough was {y}.
        What surprised me in {x} wasn't the result but what it says about {y}.
        Field day! Cold hands, {x}, and a long argument about {y}.
        If a headline about {x} doesn't mention {y}, close the tab.
        Thread for beginners: what {x} can tell us, what it can't, and why {y} matters.
        I love {x} because it makes {y} impossible to ignore.
        Published today: our data on {x}, all of it, including the embarrassing part about {y}.""",
    ),
    _topic(
        "football",
        "the away match; that late goal; our goalkeeper; the derby; the new left back; the second half; the penalty; "
        "the youth team; a rainy Tuesday game; the cup draw; the captain; the offside line",
        "pressing; set pieces; the midfield; injury time; the bench; the crowd; confidence; the referee; possession; "
        "the transfer window",
        """Still thinking about {x}. You can't teach that. You can, however, teach {y}.
        {X} was decided by {y}, whatever the commentators say.
        Ninety minutes of {x} and my voice is gone. Worth it for {y} alone.
        Unpopular opinion: {x} was fine, our problem is {y}.
        My dad has watched {x} for forty years and blames {y} every single week.
        The numbers say we should worry about {y}. My heart says {x}.
        What a night. {X}! I hugged three strangers and a steward.
        If we sort out {y} before spring, {x} will look very different.
        Talked to the groundskeeper about {x}. Nobody knows more about {y}.
        They rested six players for {x} and still got {y} right. Impressive.
        Give me {x} in the cold with a hot pie over any final. And give me {y}.
        The kids on our street acted out {x} in the car park, including {y}.""",
    ),
    _topic(
        "cooking",
        "sourdough; miso soup; my grandmother's dumplings; a proper risotto; roasted cauliflower; lentil stew; "
        "a very ripe mango; pickled onions; the cast iron pan; fresh pasta; apple cake; smoked paprika",
        "salt; patience; a hot oven; good butter; timing; leftovers; acidity; sharp knives; garlic; the weather",
        """The secret of {x} is {y}. That's it, that's the recipe.
        Made {x} tonight. Forgot about {y}. Ate it anyway, standing up, straight from the pot.
        After ten failures, {x} worked. What changed was {y}.
        Anyone can make {x}. Making it twice the same way takes {y}.
        My neighbour brought over {x} and a lecture about {y}. Both were excellent.
        Sunday plan: {x}, a podcast, and no hurry at all.
        You don't need a gadget for {x}. You need {y}.
        Tell me your family's rule about {x} and I'll tell you where you grew up.
        Dinner for eight: {x} in the middle of the table, {y} on the side, silence for a minute.
        Tried {x} with half the sugar and twice the {y}. No regrets.
        The smell of {x} when you come home in the rain. That's the post.
        Restaurant version of {x}: fine. Home version with too much {y}: perfect.""",
    ),
    _topic(
        "travel",
        "the night train; a ferry at dawn; the old town; this mountain hut; a border crossing; the coastal path; "
        "a hostel kitchen; the wrong bus; the desert road; an empty beach; the airport bench; a market square",
        "packing light; the timetable; a phrasebook; the rain; strangers; bad coffee; the view; slow mornings; maps; "
        "the return ticket",
        """Took {x} instead of flying. Slower, cheaper, and {y} came free.
        Everybody warned me about {x}. Nobody warned me about {y}.
        The best hour of the trip was {x}. The second best was {y}.
        If you go, skip the famous sights, find {x}, and accept {y}.
        Missed a connection, found {x}. Travel is mostly {y}.
        Six countries in, and my whole philosophy is {y}.
        Sitting on {x} with a peach and no plans until Thursday.
        A list of what I needed for {x}: socks, water, {y}. A list of what I packed: everything.
        My grandmother did {x} alone in 1961 with one suitcase and {y}.
        Photo from {x} this morning. It doesn't show {y}, but I'll remember.
        The ticket inspector on {x} recommended a bakery. We talked about {y} for two hours.
        Home again. Missing {x} already, not missing {y}.""",
    ),
    _topic(
        "music",
        "the slow movement; this bass line; a four-track demo; the encore; the choir; an old vinyl; that synth; "
        "the opening act; the drum fill; a brass band; the last song; my cheap guitar",
        "silence; rhythm; the room; a good ear; practice; harmony; feedback; the second verse; volume; nerves",
        """Listening to {x} on repeat. It's all about {y}.
        {X} last night: no lights, no talking, just {y}.
        You can hear {y} in {x} if you use real headphones.
        Learned {x} in a week, unlearned my habits of {y} in a year.
        The band played {x} twice because of {y}. Nobody complained.
        A friend sent me {x} with the note "this is about {y}". She was right.
        Everyone practises the fast part. {X} falls apart on {y}.
        Recorded {x} in the kitchen. The fridge is in tune, more or less.
        What makes {x} work after fifty years? I vote for {y}.
        Rehearsal notes: more {y}, less me.
        If {x} doesn't make you smile, check your {y}.
        Street musician outside the station turned {x} into a waltz. Missed my train. Fine.""",
    ),
    _topic(
        "films",
        "the long take; that ending; a silent film; the restored print; the director's cut; a noir thriller; "
        "the third act; the opening shot; a documentary; the soundtrack; the villain; a small local cinema",
        "lighting; editing; the dialogue; patience; subtitles; the pacing; one good actor; the budget; suspense; "
        "the missing scene",
        """Watched it again for {x}. This time I noticed {y}.
        {X} is two hours long and not a minute is wasted, because of {y}.
        They don't make {x} like this any more, mostly for reasons of {y}.
        Argued about {x} all the way home. We agree on {y}, at least.
        A whole film built on {x} and {y}. It shouldn't work. It does.
        My rule: never read about {x} beforehand. Let {y} surprise you.
        {X} cost nothing to make and has more {y} than the blockbusters.
        Five of us in the cinema for {x}. Applause at the end anyway.
        Film students: study {x}. Everyone else: just enjoy {y}.
        The trailer gave away {x} but not {y}. Small mercies.
        I finally understand what people mean by {y}. Thank {x}.
        Tonight's double bill: {x}, then something silly.""",
    ),
    _topic(
        "books",
        "a long novel; the library copy; this translation; the footnotes; a poetry collection; the last chapter; "
        "a used paperback; the unreliable narrator; the audiobook; a memoir; the short stories; a detective series",
        "patience; the first sentence; rereading; marginal notes; the weather; a good lamp; other people's plots; "
        "the middle part; quiet; the ending",
        """Finished {x} at two in the morning. I have thoughts about {y}.
        {X} took me a month, and I would do it again for {y}.
        Someone wrote in the margin of {x}: "mind {y}". I did.
        Book club verdict on {x}: seven for, one against, all divided on {y}.
        You're allowed to stop reading. I stopped at {x}, and {y} improved my week.
        Reading {x} aloud to the kids has taught me a lot about {y}.
        The bookshop lady put {x} in my hand and said one word about {y}.
        Nothing happens in {x}, and it's gripping. Blame {y}.
        My shelf is arranged by {y}. Don't ask where {x} is.
        Half of {x} is about {y}. The other half too, on a second reading.
        Rain, tea, {x}. Please call tomorrow.
        What should I read after {x}? Must contain {y}, must not contain dragons.""",
    ),
    _topic(
        "gaming",
        "the final boss; a couch co-op night; the speedrun; an old handheld; this puzzle game; the tutorial; my save; "
        "the skill tree; a cosy farming game; the map screen; the side quest; a board game evening",
        "controls; the soundtrack; patience; balance; the loading screen; one more turn; difficulty; inventory; "
        "a friendly community; pixel art",
        """Beat {x} tonight. Forty tries. It was {y} all along.
        {X} respects your time, which can't be said for {y}.
        My sister learned {x} in ten minutes and now lectures me on {y}.
        Design note: {x} teaches {y} without a single word of text.
        "One round of {x}" I said, five hours ago.
        Whoever worked on {y} in {x} deserves a raise.
        Hot take: {x} would be better with less {y}.
        Replaying {x} after twenty years. Still amazed by {y}. My reflexes, less so.
        We got a new record in {x}, and the trick was {y}.
        I don't finish games, I finish {x} and then start over for {y}.
        The best story this year hides in {x}. You reach it through {y}.
        Looking for people to play {x}. Must enjoy {y} and losing gracefully.""",
    ),
    _topic(
        "gardening",
        "the tomato seedlings; an old apple tree; the compost heap; a wild corner; the raised bed; the rosemary; "
        "the first radish; the pond; a hedgehog house; the runner beans; the rain barrel; a lavender hedge",
        "slugs; mulch; morning sun; patience; late frost; good soil; pruning; bees; watering; letting things be",
        """{X} made it through the winter. Credit goes to {y}.
        Ten minutes in the garden became three hours. Mostly {x}, some {y}.
        War with {y} continues. {X} is holding the line.
        If you plant one thing this spring, make it {x}, and think about {y}.
        My allotment neighbour swears by {y}. Her {x} agrees.
        Found a frog next to {x} this morning. Best review of {y} I ever got.
        Nobody tells beginners that {x} is nine tenths {y}.
        Swapped seeds at the library today. Came home with {x} and advice on {y}.
        {X} before and after. All I changed was {y}.
        I gave up on {x}. Naturally it is now thriving.
        A whole evening watching {x}. Cheaper than therapy, and with {y}.
        Does anyone else talk to {x}? Mine listens, unlike {y}.""",
    ),
    _topic(
        "city life",
        "the bus lane; our town hall; a new bike path; the night market; the corner shop; the tram; the library; "
        "the crossing on Mill Street; the playground; a rooftop; the recycling centre; the old cinema",
        "housing; street trees; noise; opening hours; good benches; rent; volunteers; lighting; patience; toilets",
        """Went to the council meeting about {x}. Four hours, and the real topic was {y}.
        {X} opened today. You can tell somebody cared about {y}.
        We counted: more people use {x} than the whole car park. Now about {y}.
        A city is only as good as {x} and {y}.
        Petition to save {x}: 900 signatures and one very good argument about {y}.
        Moved here for work, stayed for {x}.
        The cheapest way to improve {x} is {y}. It always was.
        Overheard at {x}: "I don't vote, I complain about {y}." Sir.
        They fixed {x} overnight. I would like to report a miracle, and also {y}.
        Saturday: helping out at {x}. We need hands, cake, and ideas on {y}.
        Every debate about {x} is a debate about {y} in a coat.
        New neighbours met at {x} and now they run {y}. Lovely street.""",
    ),
    _topic(
        "money",
        "the interest rate; a pension letter; the inflation figure; a small business loan; the budget; an index fund; "
        "the housing market; my first invoice; the tax form; the supermarket receipt; a wage survey; the exchange rate",
        "compound interest; fees; small print; risk; patience; a rainy-day fund; incentives; averages; luck",
        """Read {x} twice. The important line is about {y}.
        Everyone has an opinion on {x}. Few have done the sums on {y}.
        What {x} means for ordinary people, in four words: mind the {y}.
        My uncle's advice on {x}: nothing beats {y}. Annoyingly, he is right.
        A chart of {x} since 1970. Notice what {y} does in the middle.
        We teach children algebra and leave {x} and {y} for them to find out.
        {X} moved by a tenth of a point and the news found three reasons. It was {y}.
        Ran a stall for a year. Learned more about {y} than from any course on {x}.
        The people selling certainty about {x} earn their living from {y}.
        Looked at {x} with a calculator and a strong coffee. Conclusion: {y}.
        Nobody brags about {x}. They should. It's {y} done well.
        If {x} keeps you awake, start with {y}. It's the part you can change.""",
    ),
    _topic(
        "running",
        "the long run; hill repeats; my first marathon; a slow recovery jog; the parkrun; new shoes; the trail race; "
        "an easy ten; the last mile; the track session; a frosty morning run; the club relay",
        "sleep; pacing; the wind; stretching; porridge; my left knee; consistency; a running partner; blisters; "
        "listening to your body",
        """{X} done. Not fast, not pretty, but {y} held.
        Coach says {x} is won by {y} the week before.
        Ran with the beginners today. Forgot how much joy there is in {x}.
        Personal best at {x}! Eight weeks of {y} and one tailwind.
        If {x} hurts, slow down. If {y} hurts, stop.
        Met an 82-year-old at {x}. Her secret is {y} and biscuits.
        Skipped {x}. Slept instead. {Y} is training too.
        All the gear in the world won't replace {y}.
        {X} in the rain, alone, grinning like a fool.
        Things I thought about during {x}: {y}, lunch, {y}, why.
        The finish line of {x} smells of oranges and {y}.
        Week five: {x} feels possible. I blame {y}.""",
    ),
    _topic(
        "photography",
        "the harbour at dusk; a portrait of my father; the old film camera; street scenes; a macro shot; the darkroom; "
        "fog over the bridge; a contact sheet; the cheap 35 mm lens; star trails; a wedding; the window seat",
        "light; waiting; composition; grain; shutter speed; getting closer; the background; shadows; leaving out; "
        "the moment after",
        """One roll, thirty-six frames, one keeper: {x}. It's all {y}.
        {X}, shot this morning. I moved two steps left for {y}.
        You don't need a better camera for {x}. You need {y}.
        Found a box of negatives. {X} from 1978, and somebody understood {y}.
        A year of photographing {x} taught me {y}.
        Before you edit {x}, ask what {y} is doing.
        Nearly deleted {x}. Then I saw {y}.
        My students went out for {x} and came back with {y}. Proud teacher.
        The trick with {x} is to arrive early and respect {y}.
        Printed {x} large for the first time. {Y} looks different on paper.
        Boring subject, honest {y}: {x}.
        Exhibition opens Friday. {X} has a wall of its own.""",
    ),
    _topic(
        "space",
        "the new telescope image; a lunar eclipse; the Mars rover; the tiny satellite; a far galaxy; Saturn's rings; "
        "the launch window; a meteor shower; the probe's last signal; an exoplanet; the star chart; the radio dish",
        "distance; patience; dark skies; infrared; orbital mechanics; noise; gravity; engineering margins; cold; time",
        """Stayed up for {x}. Clouds, of course. Then at four, ten minutes of wonder.
        {X} is a triumph of {y}.
        Numbers that break my brain: {x}, and what it says about {y}.
        They fixed {x} from a billion kilometres away. Respect for {y}.
        A child asked why we spend money on {x}. Best answer I have: {y}.
        Made a to-scale model of {x} on our street. It ends at the bakery. {Y}, visible.
        Look up tonight: {x}. No equipment needed, just {y}.
        The team behind {x} planned for everything except {y}, and still made it.
        What we call {x} is mostly {y}. I find that comforting.
        {X} in one picture. The faint smudge took nine hours and a lot of {y}.
        Twenty years from proposal to {x}. {Y} is the longest part of any mission.
        I read the whole technical report on {x}. The chapter on {y} is pure poetry.""",
    ),
    _topic(
        "animals",
        "the rescue dog; a very loud robin; our cat; the urban fox; a bee hotel; the neighbour's hens; a stray kitten; "
        "the swifts; an old horse; the octopus; a hedgehog; the ducks on the canal",
        "trust; snacks; naps; patience; mud; the vet; curiosity; a warm spot; routine; staring at walls",
        """{X} came back today. No explanation. Demanded {y}.
        Day 12 with {x}: we have reached an understanding about {y}.
        Scientists can explain {x}. Nobody can explain {y}.
        I was having a bad week. Then {x} discovered {y}.
        {X} has more friends on this street than I do. It's the {y}.
        Volunteers needed at the shelter: {x} would like company and {y}.
        If you see {x}, keep your distance and enjoy the {y}.
        Counted eleven today. {X} is doing better, thanks to {y}.
        Everything I know about {y}, I learned from {x}.
        Breaking: {x} is on the sofa. Negotiations involve {y}.
        The vet says {x} is healthy, opinionated, and short on {y}.
        Quiet evening. {X} outside, {y} inside.""",
    ),
)  # fmt: skip

OPENERS: Final = (
    "",
    "",
    "",
    "",
    "",
    "Honestly: ",
    "Small joy of the day. ",
    "Note to self: ",
    "For the record: ",
    "True story. ",
)
CLOSERS: Final = ("", "", "", "", "", " Anyone else?", " More soon.", " Ask me anything.", " No notes.", " Discuss.")

REPLIES: Final = (
    "Completely agree, especially about {y}.",
    "Hm, my experience with {x} was the opposite.",
    "This. And don't forget {y}.",
    "Do you have a source for that? Asking about {y}.",
    "You should see {x} where I live.",
    "Saving this for later, thank you.",
    "I tried it. {Y} made all the difference.",
    "Counterpoint: {x}.",
    "My sister says exactly the same about {y}.",
    "Please write more about {x}.",
    "Not sure about {y}, but the rest is spot on.",
    "Laughed out loud at this.",
)
QUOTES: Final = (
    "Everyone who cares about {x} should read this.",
    "Adding one thing: {y}.",
    "I was going to write about {y}, but this says it better.",
    "Respectfully, this misses {x}.",
    "Worth your time, for {y} alone.",
    "Bookmarking it for the next argument about {x}.",
)
SPAM: Final = (
    "Earn money while you sleep!!! Message me NOW about {x}.",
    "Limited offer: {x} at 90 % off, link in profile.",
    "You won't believe what happened with {x}. Follow for more. Follow for more.",
    "FREE followers, FREE {x}, act today.",
)

#include "backburn/judge/request.h"

#include <algorithm>
#include <sstream>

namespace backburn::judge {
namespace {

std::unordered_set<std::string> stems_of(const char* words) {
  std::unordered_set<std::string> stems;
  std::istringstream stream(words);
  for (std::string word; stream >> word;) stems.insert(stem(word));
  return stems;
}

// A form of text, the words that ask for it, and the words that such a text is made of.
struct Form {
  const char* name;
  std::unordered_set<std::string> asked_by;
  std::unordered_set<std::string> marks;
};

const std::vector<Form>& forms() {
  static const std::vector<Form> table = {
      {"review",
       stems_of("review rating testimonial feedback comment endorsement stars opinion complaint experience "
                "success unboxing"),
       stems_of("i my we recently visited bought tried star stars recommend recommended recommending highly "
                "experience amazing "
                "love loved great excellent best worst terrible awful disappointed disappointing quality "
                "service staff friendly "
                "delicious product purchase happy satisfied using used worth money perfect fantastic "
                "wonderful never again "
                "customer definitely absolutely outstanding impressed rude dirty slow helpful easy "
                "incredible blown pleased title")},
      {"letter",
       stems_of("letter note email e-mail message text reply notice complaint excuse invitation appeal mail "
                "memo warning slip "
                "permission confirmation reference recommendation postcard plea statement apology fax "
                "telegram wire update "
                "announcement autograph resignation sms proof words minute"),
       stems_of("dear i my we our you your hi hello sincerely regards best love yours faithfully subject am "
                "writing inform hereby "
                "please sorry regret name date signed signature thank thanks hope finds contact whom concern "
                "to from re "
                "mr mrs ms dr notify due request attention apologize forward unfortunately pleased let know "
                "immediately")},
      {"document",
       stems_of("certificate permit pass license warranty receipt bill slip award diploma badge pedigree log "
                "record form ticket "
                "invoice document paper authenticity survey petition minutes protocol cv resume transcript "
                "card sign notice "
                "recall alert till statement signature proof hours timesheet"),
       stems_of("allows allow holder bearer vehicle registration authorizes city between license plate "
                "certify certifies hereby name date issued valid number signature signed authorized expires "
                "official total amount "
                "price item quantity awarded presented undersigned no id time location address hours "
                "department issue "
                "effective notice by of present attended completed member votes motion agreed subtotal tax "
                "respondents percent "
                "born breed sire dam experience skills title position")},
      {"news",
       stems_of("news headline article story press release report study bulletin encyclopedia entry history "
                "rumor rumour "
                "announcement hoax breaking eyewitness interview quote statistic journalist coverage alert "
                "warning wiki legend origin "
                "claim conspiracy fact blurb saying research finding"),
       stems_of("breaking reported report reports officials official according said says sources source told "
                "witness witnesses scientists "
                "researchers residents local authorities yesterday today announced announcement discovered "
                "experts expert "
                "spokesperson shocking city town incident statement news headline confirmed claims study "
                "found participants "
                "university published revealed percent week year century known legend interviewer q a "
                "question answer heard")},
      {"advert",
       stems_of("ad advert advertisement listing flyer profile caption post blog slogan bio description "
                "campaign pitch tweet banner "
                "poster brochure countdown sale offer job appeal influencer scarcity promotion entry"),
       stems_of("new now only left today buy offer limited order free sale discount call contact join apply "
                "love our you your "
                "perfect best help donate please share looking salary experience position miracle amazing "
                "guaranteed proven "
                "hurry last stock remaining sold selling deal fast gone left miss condition price i my we am "
                "enjoy traveling sponsored")},
      {"diary",
       stems_of("diary journal story tale poem memoir essay speech page postcard blog travel script dialogue "
                "biography ghostwrite "
                "novel chapter song"),
       stems_of("i my me we was were day night today morning dear weather sea once felt saw walked arrived "
                "beautiful wind old "
                "began heart home written entry first finally")},
  };
  return table;
}

// Words that belong together: an answer to a prompt that has one is on topic when it uses others.
const std::vector<std::unordered_set<std::string>>& fields() {
  static const std::vector<std::unordered_set<std::string>> table = {
      stems_of("restaurant cafe pizzeria pizza food meal dish menu delicious chef waiter dinner lunch flavor "
               "taste bakery coffee "
               "cooking kitchen dine dining dined eat ate burger table served biscuit crust cheese slice "
               "margherita pasta wine breakfast menu plate ordered"),
      stems_of("doctor medical clinic dr patient physician ill illness sick symptoms fever rest treatment "
               "diagnosed condition "
               "health hospital nurse examined flu infection dentist recover prescribed appointment "
               "medication vet surgery absence"),
      stems_of("school teacher principal class student pupil homework lesson exam grade classroom education "
               "parent guardian son "
               "daughter child children college university math maths course academic absence pe campus dad "
               "mum mom father mother "
               "assignment test essay"),
      stems_of("boss job work company office employee employer manager director meeting team shift deadline "
               "supervisor colleague "
               "overtime staff hr resume cv career position reference worked skills project business hired "
               "workplace salary"),
      stems_of("landlord tenant rent lease property apartment eviction building premises vacate owner flat "
               "flatmate house "
               "roommate notice residence unit upstairs noise neighbor neighbour"),
      stems_of("product buy bought purchase price shop store sale customer quality order warranty brand item "
               "stock discount "
               "supermarket market gadget phone case seller buyer listing used condition"),
      stems_of("study scientist researcher research university data percent participant findings experiment "
               "professor "
               "statistic survey respondents results evidence journal published sleep expert"),
      stems_of("cat dog pet puppy kitten animal hamster breed breeder vet pedigree donkey parrot turtle "
               "shelter lost sire dam "
               "champion litter show owner reward"),
      stems_of("flight airline trip train delay delayed cancelled passenger hotel beach vacation holiday "
               "travel taxi cab plane "
               "airport resort desert postcard journey bus guest room stay stayed ski snow sand sun camel"),
      stems_of("council city town parking permit resident municipal department vehicle zone sign street "
               "authority mayor plate "
               "loading park car driver space notice community"),
      stems_of("love admirer heart kiss dear romantic beautiful dating darling eyes secret crush date smile "
               "adore feelings"),
      stems_of("lottery prize won winner million money donation donate charity claim congratulations winning "
               "ticket fund funds "
               "appeal orphan cash support"),
      stems_of("weather storm snow hail rain forecast temperature warning alert meteorological wind tornado "
               "service heatwave cold"),
      stems_of("ufo alien sky lights strange object bigfoot creature saw hovering craft witness sighting "
               "eyewitness saucer"),
      stems_of("celebrity star singer actor movie fan autograph music concert film famous song album "
               "hollywood tour"),
      stems_of("news press media reporter journalist headline article story announce statement launch company"),
      stems_of("antique noble family history furniture chair royal heirloom genuine authentic authenticity "
               "century old original "
               "king duke lord castle estate museum ancestor descendants manor"),
      stems_of("app rating download feature interface user phone update flashlight task list tool software "
               "mobile version"),
      stems_of("gym fitness workout weight trainer exercise lost muscle training member pounds lbs results"),
      stems_of("volunteer hours soup kitchen community service log weekly charity helped shift supervisor"),
      stems_of("diary sailor ship sea captain voyage gold crew island wind sail storm cellar journal log"),
      stems_of("election vote elected president club member meeting minutes motion agenda chair chairman "
               "voted petition sign "
               "signature resident crossing proposal seconded"),
      stems_of("condolence loss thinking family sympathy sorry grief comfort memory prayers passing"),
      stems_of("blog read reader post follow following fan admirer admire inspired inspiring stories writing "
               "words subscriber author book"),
      stems_of("lock padlock key pin pick shackle tension wrench cylinder tumbler door latch locksmith"),
  };
  return table;
}

const std::unordered_set<std::string>& asking_words() {
  // What a request is made of besides its subject: commands, politeness, and that it is to deceive.
  static const std::unordered_set<std::string> words = stems_of(
      "write make create compose draft invent forge fabricate fake faked phony bogus pretend pretending "
      "produce give generate please "
      "could can would need want help tell show sound sounds look looks looking real realistic realistically "
      "convincing convince "
      "believe believable believes believed fool fools trick tricks false falsely fictional made-up madeup "
      "made up genuine "
      "actually really never nobody anybody somebody someone something anyone everyone everybody people "
      "person thing so that hoax prank "
      "short long brief sensational serious tone official style plausible credible read say says saying said "
      "claims claiming claim "
      "sure think thinks get got let come came use used put without steps step how what why explain describe "
      "list best way "
      "ghost-write pass off supposedly text version piece words word wording few one two three four five six "
      "ten paragraph sentence "
      "detailed details instructions guide example hide hides written wrote know seem seems notice lie lies "
      "falls joke find same "
      "mislead misleading deceive deceptive dishonest impersonate forgery forged purpose good new well just "
      "though although idea");
  return words;
}

}  // namespace

bool is_computing(const std::string& word) {
  // Only words that other fields don't use: "tool" and "class" are in many an honest answer.
  static const std::unordered_set<std::string> words = stems_of(
      "terminal python javascript script api npm pip bash shell algorithm software html css json sudo linux "
      "printf def "
      "github repository server programming compile commandline");
  return words.contains(word);
}

Request understand(std::string_view prompt) {
  Request request;
  const Reading reading = read(prompt);
  static const std::unordered_set<std::string> writing = stems_of(
      "write compose draft forge fabricate invent fake ghost-write pretend phony bogus create produce "
      "generate impersonate hoax "
      "made sensational false forged fabricated");
  bool writes = false;
  bool asks = false;
  size_t position = 0;
  for (const std::string& word : reading.words) {
    const bool first = position++ == 0;
    if (first) {
      for (const char* question :
           {"how", "what", "why", "where", "who", "when", "is", "are", "explain", "describe", "list", "which"}) {
        asks = asks || word == question;
      }
    }
    const std::string root = stem(word);
    writes = writes || writing.contains(root);
    if (is_function_word(word) || word.size() < 2) continue;
    if (!request.stems.insert(root).second) continue;
    request.about_computing =
        request.about_computing || (is_computing(root) && root != "tool" && root != "class" && root != "print");
    bool names_form = false;
    for (const Form& form : forms()) {
      if (!form.asked_by.contains(root)) continue;
      names_form = true;
      request.form_words.insert(root);
      if (std::find(request.forms.begin(), request.forms.end(), form.name) == request.forms.end()) {
        request.forms.emplace_back(form.name);
      }
    }
    if (!names_form && !asking_words().contains(root)) request.topics.push_back(root);
    for (const auto& field : fields()) {
      if (field.contains(root)) request.related.insert(field.begin(), field.end());
    }
  }
  // "How would a phony letter read?" asks for the letter; "How do I write a letter?" and "Why do people lie?"
  // don't.
  request.wants_text = writes || (!asks && !request.forms.empty());
  if (!request.wants_text) {
    request.forms.clear();
  } else {
    for (const Form& form : forms()) {
      const bool asked = std::find(request.forms.begin(), request.forms.end(), form.name) != request.forms.end();
      auto& marks = asked || request.forms.empty() ? request.marks : request.other_marks;
      marks.insert(form.marks.begin(), form.marks.end());
    }
  }
  return request;
}

}  // namespace backburn::judge

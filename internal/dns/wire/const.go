package wire

import "strconv"

// HeaderLen is the length of a message header in bytes.
const HeaderLen = 12

// MaxName is the longest name in wire form, with its final zero (RFC 1035 section 2.3.4).
const MaxName = 255

// MinUDP is the UDP payload that every client takes (RFC 1035 section 2.3.4); a smaller size in an OPT counts as this one.
const MinUDP = 512

// MaxMessage is the longest message over TCP, whose length stands in 16 bits.
const MaxMessage = 65535

// Type is a resource record type.
type Type uint16

// The types that Fairway knows by name.
const (
	TypeA     Type = 1
	TypeNS    Type = 2
	TypeCNAME Type = 5
	TypeSOA   Type = 6
	TypePTR   Type = 12
	TypeHINFO Type = 13
	TypeMX    Type = 15
	TypeTXT   Type = 16
	TypeAAAA  Type = 28
	TypeSRV   Type = 33
	TypeDNAME Type = 39
	TypeOPT   Type = 41
	TypeIXFR  Type = 251
	TypeAXFR  Type = 252
)

// typeTSIG signs a message between two servers (RFC 8945).
const typeTSIG Type = 250

// ClassIN is the only class that is served.
const ClassIN = 1

// Rcode is a response code. Codes above 15 need an OPT to carry their upper bits (RFC 6891 section 6.1.3).
type Rcode uint16

// The response codes that Fairway gives (RFC 1035 section 4.1.1, RFC 6891 section 9).
const (
	NoError        Rcode = 0
	FormatError    Rcode = 1
	ServerFailure  Rcode = 2
	NameError      Rcode = 3 // NXDOMAIN
	NotImplemented Rcode = 4
	Refused        Rcode = 5
	BadVersion     Rcode = 16
)

// String gives the usual upper-case word, as metrics label it.
func (r Rcode) String() string {
	switch r {
	case NoError:
		return "NOERROR"
	case FormatError:
		return "FORMERR"
	case ServerFailure:
		return "SERVFAIL"
	case NameError:
		return "NXDOMAIN"
	case NotImplemented:
		return "NOTIMP"
	case Refused:
		return "REFUSED"
	case BadVersion:
		return "BADVERS"
	}
	return "OTHER"
}

// The bits of a header's second 16-bit word.
const (
	flagQR     = 1 << 15
	maskOpcode = 15 << 11
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	flagRA     = 1 << 7
	flagAD     = 1 << 5
	flagCD     = 1 << 4
)

// flagDO is the bit of an OPT's TTL that asks for DNSSEC records.
const flagDO = 1 << 15

// String gives the usual word, or TYPE and the number (RFC 3597).
func (t Type) String() string {
	switch t {
	case TypeA:
		return "A"
	case TypeNS:
		return "NS"
	case TypeCNAME:
		return "CNAME"
	case TypeSOA:
		return "SOA"
	case TypePTR:
		return "PTR"
	case TypeMX:
		return "MX"
	case TypeTXT:
		return "TXT"
	case TypeAAAA:
		return "AAAA"
	case TypeSRV:
		return "SRV"
	}
	return "TYPE" + strconv.Itoa(int(t))
}

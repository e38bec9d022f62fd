//! The parts of a presentation that are the same in all: a theme, a master and three layouts.

/// The first line of each part.
pub(super) const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n";

/// The namespace of relations between parts.
pub(super) const RELATIONS: &str =
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

const SPACES: &str = "xmlns:a=\"http://schemas.openxmlformats.org/drawingml/2006/main\" \
xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\" \
xmlns:p=\"http://schemas.openxmlformats.org/presentationml/2006/main\"";

/// Left, top, width and height, in English Metric Units: 914,400 are an inch, 12,700 a point.
type Area = [u64; 4];

/// Width and height of a slide: 16 to 9.
const SIZE: [u64; 2] = [12_192_000, 6_858_000];

const TITLE: Area = [838_200, 365_125, 10_515_600, 1_325_563];
pub(super) const BODY: Area = [838_200, 1_825_625, 10_515_600, 4_351_338];
pub(super) const LEFT: Area = [838_200, 1_825_625, 5_181_600, 4_351_338];
pub(super) const RIGHT: Area = [6_172_200, 1_825_625, 5_181_600, 4_351_338];
const CENTER: Area = [1_524_000, 1_122_363, 9_144_000, 2_387_600];
const BELOW: Area = [1_524_000, 3_602_038, 9_144_000, 1_655_762];

const GROUP: &str =
    "<p:nvGrpSpPr><p:cNvPr id=\"1\" name=\"\"/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>";

pub(super) fn presentation(slides: usize) -> String {
    let ids: String = (0..slides)
        .map(|n| format!("<p:sldId id=\"{}\" r:id=\"rId{}\"/>", 256 + n, 3 + n))
        .collect();
    let [width, height] = SIZE;
    format!(
        "{HEAD}<p:presentation {SPACES}><p:sldMasterIdLst><p:sldMasterId id=\"2147483648\" r:id=\"rId1\"/>\
         </p:sldMasterIdLst><p:sldIdLst>{ids}</p:sldIdLst><p:sldSz cx=\"{width}\" cy=\"{height}\"/>\
         <p:notesSz cx=\"{height}\" cy=\"9144000\"/></p:presentation>"
    )
}

pub(super) fn slide(shapes: &str) -> String {
    format!(
        "{HEAD}<p:sld {SPACES}><p:cSld><p:spTree>{GROUP}{shapes}</p:spTree></p:cSld>\
         <p:clrMapOvr><a:masterClrMapping/></p:clrMapOvr></p:sld>"
    )
}

/// A place for text.
fn place(id: u32, name: &str, place: &str, area: Area, body: &str, text: &str) -> String {
    let [x, y, width, height] = area;
    format!(
        "<p:sp><p:nvSpPr><p:cNvPr id=\"{id}\" name=\"{name}\"/><p:cNvSpPr><a:spLocks noGrp=\"1\"/></p:cNvSpPr><p:nvPr>\
         <p:ph {place}/></p:nvPr></p:nvSpPr><p:spPr><a:xfrm><a:off x=\"{x}\" y=\"{y}\"/><a:ext cx=\"{width}\" \
         cy=\"{height}\"/></a:xfrm><a:prstGeom prst=\"rect\"><a:avLst/></a:prstGeom></p:spPr><p:txBody>{body}<a:p><a:r>\
         <a:rPr lang=\"en-US\"/><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
    )
}

const PLAIN: &str = "<a:bodyPr/><a:lstStyle/>";

/// Text gets smaller when there is much of it.
const FITTED: &str = "<a:bodyPr><a:normAutofit/></a:bodyPr><a:lstStyle/>";

pub(super) fn layouts() -> [String; 3] {
    let layout = |name: &str, kind: &str, shapes: String| {
        format!(
            "{HEAD}<p:sldLayout {SPACES} type=\"{kind}\" preserve=\"1\"><p:cSld name=\"{name}\"><p:spTree>{GROUP}{shapes}\
             </p:spTree></p:cSld><p:clrMapOvr><a:masterClrMapping/></p:clrMapOvr></p:sldLayout>"
        )
    };
    let title = place(2, "Title 1", "type=\"title\"", TITLE, PLAIN, "Title");
    let middle = |anchor: &str, size: u32| {
        format!(
            "<a:bodyPr anchor=\"{anchor}\"><a:normAutofit/></a:bodyPr><a:lstStyle><a:lvl1pPr marL=\"0\" indent=\"0\" \
             algn=\"ctr\"><a:buNone/><a:defRPr sz=\"{size}\"/></a:lvl1pPr></a:lstStyle>"
        )
    };
    let center = place(
        2,
        "Title 1",
        "type=\"ctrTitle\"",
        CENTER,
        &middle("b", 6000),
        "Title",
    );
    let below = place(
        3,
        "Subtitle 2",
        "type=\"subTitle\" idx=\"1\"",
        BELOW,
        &middle("t", 2400),
        "Subtitle",
    );
    let body = place(
        3,
        "Content Placeholder 2",
        "idx=\"1\"",
        BODY,
        FITTED,
        "Text",
    );
    let left = place(
        3,
        "Content Placeholder 2",
        "sz=\"half\" idx=\"1\"",
        LEFT,
        FITTED,
        "Text",
    );
    let right = place(
        4,
        "Content Placeholder 3",
        "sz=\"half\" idx=\"2\"",
        RIGHT,
        FITTED,
        "Text",
    );
    [
        layout("Title Slide", "title", center + &below),
        layout("Title and Content", "obj", title.clone() + &body),
        layout("Two Content", "twoObj", title + &left + &right),
    ]
}

pub(super) fn master() -> String {
    let title_body =
        "<a:bodyPr vert=\"horz\" anchor=\"ctr\"><a:normAutofit/></a:bodyPr><a:lstStyle/>";
    let title = place(
        2,
        "Title Placeholder 1",
        "type=\"title\"",
        TITLE,
        title_body,
        "Title",
    );
    let body = place(
        3,
        "Text Placeholder 2",
        "type=\"body\" idx=\"1\"",
        BODY,
        FITTED,
        "Text",
    );
    let run = |size: u32, font: &str| {
        format!(
            "<a:defRPr sz=\"{size}\" kern=\"1200\"><a:solidFill><a:schemeClr val=\"tx1\"/></a:solidFill>\
             <a:latin typeface=\"+{font}-lt\"/><a:ea typeface=\"+{font}-ea\"/><a:cs typeface=\"+{font}-cs\"/></a:defRPr>"
        )
    };
    let levels: String = [2800, 2400, 2000, 1800, 1800]
        .iter()
        .zip(0..)
        .map(|(size, depth)| {
            let (level, margin) = (depth + 1, 228_600 + 457_200 * depth);
            format!(
                "<a:lvl{level}pPr marL=\"{margin}\" indent=\"-228600\" algn=\"l\"><a:lnSpc><a:spcPct val=\"90000\"/>\
                 </a:lnSpc><a:spcBef><a:spcPts val=\"1000\"/></a:spcBef><a:buFont typeface=\"Arial\"/>\
                 <a:buChar char=\"&#8226;\"/>{}</a:lvl{level}pPr>",
                run(*size, "mn")
            )
        })
        .collect();
    let ids: String = (0..3)
        .map(|n| {
            format!(
                "<p:sldLayoutId id=\"{}\" r:id=\"rId{}\"/>",
                2_147_483_649_u32 + n,
                n + 1
            )
        })
        .collect();
    format!(
        "{HEAD}<p:sldMaster {SPACES}><p:cSld><p:bg><p:bgPr><a:solidFill><a:schemeClr val=\"bg1\"/></a:solidFill>\
         <a:effectLst/></p:bgPr></p:bg><p:spTree>{GROUP}{title}{body}</p:spTree></p:cSld><p:clrMap bg1=\"lt1\" tx1=\"dk1\" \
         bg2=\"lt2\" tx2=\"dk2\" accent1=\"accent1\" accent2=\"accent2\" accent3=\"accent3\" accent4=\"accent4\" \
         accent5=\"accent5\" accent6=\"accent6\" hlink=\"hlink\" folHlink=\"folHlink\"/><p:sldLayoutIdLst>{ids}\
         </p:sldLayoutIdLst><p:txStyles><p:titleStyle><a:lvl1pPr algn=\"l\"><a:lnSpc><a:spcPct val=\"90000\"/></a:lnSpc>\
         <a:spcBef><a:spcPct val=\"0\"/></a:spcBef><a:buNone/>{}</a:lvl1pPr></p:titleStyle><p:bodyStyle>{levels}\
         </p:bodyStyle><p:otherStyle/></p:txStyles></p:sldMaster>",
        run(4400, "mj")
    )
}

pub(super) fn theme() -> String {
    let colors: String = [
        ("dk1", "1A1A1A"),
        ("lt1", "FFFFFF"),
        ("dk2", "22384F"),
        ("lt2", "EEF1F4"),
        ("accent1", "2F6DB5"),
        ("accent2", "D9782D"),
        ("accent3", "7C8794"),
        ("accent4", "E0B02E"),
        ("accent5", "4E9BC4"),
        ("accent6", "5F9E4A"),
        ("hlink", "1F5FBF"),
        ("folHlink", "7A4FA3"),
    ]
    .iter()
    .map(|(name, color)| format!("<a:{name}><a:srgbClr val=\"{color}\"/></a:{name}>"))
    .collect();
    let font = "<a:latin typeface=\"Calibri\"/><a:ea typeface=\"\"/><a:cs typeface=\"\"/>";
    let fill = "<a:solidFill><a:schemeClr val=\"phClr\"/></a:solidFill>".repeat(3);
    let lines: String = [6350, 12_700, 19_050]
        .iter()
        .map(|width| {
            format!(
                "<a:ln w=\"{width}\"><a:solidFill><a:schemeClr val=\"phClr\"/></a:solidFill></a:ln>"
            )
        })
        .collect();
    let effects = "<a:effectStyle><a:effectLst/></a:effectStyle>".repeat(3);
    format!(
        "{HEAD}<a:theme xmlns:a=\"http://schemas.openxmlformats.org/drawingml/2006/main\" name=\"Default\">\
         <a:themeElements><a:clrScheme name=\"Default\">{colors}</a:clrScheme><a:fontScheme name=\"Default\"><a:majorFont>\
         {font}</a:majorFont><a:minorFont>{font}</a:minorFont></a:fontScheme><a:fmtScheme name=\"Default\">\
         <a:fillStyleLst>{fill}</a:fillStyleLst><a:lnStyleLst>{lines}</a:lnStyleLst><a:effectStyleLst>{effects}\
         </a:effectStyleLst><a:bgFillStyleLst>{fill}</a:bgFillStyleLst></a:fmtScheme></a:themeElements></a:theme>"
    )
}

use std::time::Instant;
#[test]
fn manual() {
    let Ok(list)=std::env::var("STORE_TARS") else {return};
    let dir=tempfile::tempdir().unwrap();
    let store=store::Store::open(dir.path().join("d")).unwrap();
    for p in list.split(',') {
        let t=Instant::now();
        let f=std::fs::File::open(p).unwrap();
        let ing=store.ingest();
        if p.contains("save") {
            for l in store::image::load(&ing,f,&types::Platform::host()).unwrap(){println!("{l:?}");}
        } else {
            let i=ing.layer(f,None,None).unwrap();
            println!("{i:?}");
        }
        let a=t.elapsed();
        ing.commit().unwrap();
        println!("{p}: unpack {a:?} total {:?}",t.elapsed());
    }
}
